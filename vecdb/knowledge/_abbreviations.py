"""Words with a period that may not end a sentence (English, German, French, Spanish, Italian)."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Always followed by what they belong to.
TITLES = _words(
    """
    mr mrs ms messrs dr drs prof profs st ste gen col maj capt cpt cmdr lt sgt cpl adm gov sen rep pres rev
    fr hon supt det insp amb mt ft vs viz cf e.g i.e eg ie ca approx resp esp incl excl
    hr frau herr z.b d.h u.a u.ä s.o s.u v.a i.d.r bzw vgl evtl ggf sog geb inkl exkl zzgl
    mme mlle mgr sr sra srta dra ud uds sig dott ing avv p.ex
    """
)

# Followed by a number, a letter or a bracket, or else they are plain words.
NUMBERED = _words(
    """
    no nos nr n° fig figs eq eqs eqn sec sect ch chap vol vols pp p pg pt art arts para paras ref refs tab
    tbl app appx ex bd abb s aufl kap abs ziff núm pág págs cap tomo lib op cit ver v
    """
)

# Often the last word of a sentence: the next word decides.
ENDING = _words(
    """
    etc inc ltd co corp bros llc plc gmbh jr sr esq al dept univ assn est dist ave blvd rd hwy bldg
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun
    proc natl acad sci biol chem phys physiol pharmacol bacteriol virol immunol biochem biophys microbiol
    neurosci genet clin exp mol med surg env appl cryst lett soc nat dev int ann arch bull
    ph.d m.d b.a m.a b.sc m.sc a.m p.m u.s u.k u.n e.u d.c ed eds trans usw u.s.w etal str
    """
)

MONTHS = _words(
    """
    januar februar märz april mai juni juli august september oktober november dezember jänner
    jan feb mär apr jun jul aug sep sept okt nov dez januari februari maart augustus oktober
    tammikuuta ledna února března dubna května června července srpna září října listopadu prosince
    """
)

# Words that begin a sentence far more often than they follow an abbreviation inside one.
STARTERS = _words(
    """
    a an the this that these those there here it its he she they we you i his her their our your my
    in on at by for from to with as of and but or so yet if when while where after before since although
    because however moreover furthermore therefore thus then also what who why how which some many most
    both each every all no not is are was were do does did can could will would should may might must
    der die das ein eine er sie es wir ich aber und wenn le la les un une il elle ils nous el los las una
    """
)
